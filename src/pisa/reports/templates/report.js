"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const list = document.getElementById("list");
  const byId = (id) => document.getElementById(id);
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const state = { playing: !calm.matches, masks: false, paths: true };

  const decodeMask = (mask) => {
    // Per frame the object's box and a test for its bits, or null where the mask is empty.
    if (!mask) return null;
    return mask.frames.map((box) => {
      if (!box) return null;
      const [x, y, width, height, bits] = box;
      const bytes = atob(bits);
      return { x, y, width, height, on: (i) => (bytes.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1 };
    });
  };

  const clips = [...list.querySelectorAll(".clip")].map((element) => {
    const panel = data.panels[Number(element.dataset.index)];
    return {
      element, panel,
      video: element.querySelector("video"),
      canvas: element.querySelector("canvas"),
      slider: element.querySelector("input[type=range]"),
      output: element.querySelector("output"),
      seek: element.querySelector(".seek"),
      held: false, visible: false, drawn: "", masks: null, shown_s: null,
    };
  });

  // The overlay belongs to the frame on screen; currentTime alone can be ahead of it.
  const frameOf = (clip) => {
    if (clip.held) return Number(clip.slider.value) - 1;
    const index = clip.shown_s === null
      ? Math.floor(clip.video.currentTime * data.fps + 1e-3)
      : Math.round(clip.shown_s * data.fps);
    return Math.max(0, Math.min(clip.panel.frames - 1, index));
  };

  const followFrames = (clip) => {
    if (!clip.video.requestVideoFrameCallback) return;
    const presented = (_, frame) => {
      clip.shown_s = frame.mediaTime;
      draw(clip);
      clip.video.requestVideoFrameCallback(presented);
    };
    clip.video.requestVideoFrameCallback(presented);
  };

  const drawMask = (context, tile, clip, k, model, frame) => {
    clip.masks ??= clip.panel.models.map((name) => decodeMask(clip.panel.overlay[name].mask));
    const box = clip.masks[k]?.[frame];
    if (!box) return;
    const grid = clip.panel.overlay[model].mask;
    const sx = tile.width / grid.width, sy = tile.height / grid.height;
    context.globalAlpha = 0.55;
    context.fillStyle = data.colours[model];
    context.beginPath();
    for (let row = 0; row < box.height; row++) {
      for (let start = 0; start < box.width; start++) {
        if (!box.on(row * box.width + start)) continue;
        let end = start;
        while (end + 1 < box.width && box.on(row * box.width + end + 1)) end++;
        context.rect(tile.x + (box.x + start) * sx, (box.y + row) * sy, (end - start + 1) * sx, sy);
        start = end;
      }
    }
    context.fill();
    context.globalAlpha = 1;
  };

  const stroke = (context, tile, path, colour, width, dash) => {
    context.beginPath();
    let pen = false;
    for (const point of path) {
      if (!point) { pen = false; continue; }
      const x = tile.x + point[0] * tile.width, y = point[1] * tile.height;
      if (pen) context.lineTo(x, y); else context.moveTo(x, y);
      pen = true;
    }
    context.lineJoin = context.lineCap = "round";
    for (const [style, extra] of [["rgba(0,0,0,.75)", 2], [colour, 0]]) {
      context.setLineDash(dash);
      context.strokeStyle = style;
      context.lineWidth = width + extra;
      context.stroke();
    }
    context.setLineDash([]);
  };

  const dot = (context, tile, point, colour, radius) => {
    if (!point) return;
    context.beginPath();
    context.arc(tile.x + point[0] * tile.width, point[1] * tile.height, radius, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.strokeStyle = "rgba(0,0,0,.85)";
    context.lineWidth = radius / 2.5;
    context.stroke();
    context.fill();
  };

  const drawPaths = (context, tile, clip, model, frame, unit) => {
    const truth = clip.panel.overlay[data.truth]?.path;
    const own = clip.panel.overlay[model].path;
    if (model !== data.truth && truth) {
      stroke(context, tile, truth, "#ffffff", 1.2 * unit, [4 * unit, 4 * unit]);
      dot(context, tile, truth[frame], "#ffffff", 2.5 * unit);
    }
    stroke(context, tile, own.slice(0, frame + 1), data.colours[model], 2 * unit, []);
    dot(context, tile, own[frame], data.colours[model], 4 * unit);
  };

  const draw = (clip) => {
    const frame = frameOf(clip);
    const unit = window.devicePixelRatio || 1;
    const width = Math.round(clip.canvas.clientWidth * unit);
    const height = Math.round(clip.canvas.clientHeight * unit);
    const key = [frame, width, height, state.masks, state.paths].join();
    if (key === clip.drawn) return;
    clip.drawn = key;
    clip.canvas.width = width;
    clip.canvas.height = height;
    const context = clip.canvas.getContext("2d");
    const tileWidth = width / clip.panel.models.length;
    clip.panel.models.forEach((model, k) => {
      const tile = { x: k * tileWidth, width: tileWidth, height };
      context.save();
      context.beginPath();
      context.rect(tile.x, 0, tileWidth, height);
      context.clip();
      if (state.masks) drawMask(context, tile, clip, k, model, frame);
      if (state.paths) drawPaths(context, tile, clip, model, frame, unit);
      context.restore();
      if (k > 0) {  // a gap between the tiles
        context.fillStyle = "#ffffff";
        context.fillRect(Math.round(tile.x - unit), 0, Math.round(2 * unit), height);
      }
    });
    if (!clip.held) clip.slider.value = String(frame + 1);
    clip.output.value = String(frame + 1);
  };

  const tick = () => {
    for (const clip of clips) if (clip.visible) draw(clip);
    window.requestAnimationFrame(tick);
  };

  const update = (clip) => {
    const run = state.playing && clip.visible && !clip.held;
    clip.video.playbackRate = Number(byId("speed").value);
    if (run && clip.video.paused) clip.video.play().catch(() => setPlaying(false));
    if (!run && !clip.video.paused) clip.video.pause();
  };

  const setPlaying = (playing) => {
    state.playing = playing;
    byId("play").textContent = playing ? "Pause" : "Play";
    for (const clip of clips) { clip.held = false; update(clip); }
  };

  const badness = (clip, model, metric) => {
    const value = clip.panel.scores[model]?.[metric];
    return value === null || value === undefined ? Infinity : -data.directions[metric] * value;
  };

  const median = (values) => {
    const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
    return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : 0;
  };

  const sort = () => {
    const model = byId("sort-model").value, metric = byId("sort-metric").value;
    const order = byId("sort-order").value;
    const bad = clips.map((clip) => badness(clip, model, metric));
    const middle = median(bad.filter((_, k) => !clips[k].panel.lost));
    // the larger the key, the earlier the clip; one without a score leads, a lost one ends the list
    const key = { worst: (x) => x, best: (x) => -x, median: (x) => -Math.abs(x - middle) }[order];
    const ranked = clips.map((clip, k) => [bad[k] === Infinity ? Infinity : key(bad[k]), clip]);
    ranked.sort(([a, one], [b, two]) => one.panel.lost - two.panel.lost || (a === b ? 0 : b - a));
    for (const [, clip] of ranked) list.append(clip.element);
    byId("status").textContent = `Clips sorted, ${order} ${byId("sort-metric").selectedOptions[0].text} of ${data.labels[model]} first`;
  };

  const filter = () => {
    const split = byId("split").value;
    for (const clip of clips) clip.element.hidden = split !== "" && clip.panel.split !== split;
  };

  for (const clip of clips) {
    clip.video.removeAttribute("controls");
    clip.seek.hidden = false;
    clip.slider.addEventListener("input", () => {
      clip.held = true;  // the clip stays on the chosen frame until Play is pressed
      clip.video.pause();
      clip.video.currentTime = (Number(clip.slider.value) - 0.5) / data.fps;
    });
    followFrames(clip);
    clip.video.addEventListener("seeked", () => draw(clip));
  }
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const clip = clips.find((one) => one.element === entry.target);
      clip.visible = entry.isIntersecting;
      update(clip);
    }
  }, { rootMargin: "100px" });
  for (const clip of clips) watcher.observe(clip.element);

  byId("controls").hidden = false;
  byId("play").addEventListener("click", () => setPlaying(!state.playing || clips.some((c) => c.held)));
  byId("speed").addEventListener("change", () => clips.forEach(update));
  byId("masks").addEventListener("change", (event) => { state.masks = event.target.checked; });
  byId("paths").addEventListener("change", (event) => { state.paths = event.target.checked; });
  byId("sort-model")?.addEventListener("change", sort);
  byId("sort-metric")?.addEventListener("change", sort);
  byId("sort-order")?.addEventListener("change", sort);
  byId("split")?.addEventListener("change", filter);
  setPlaying(state.playing);
  window.requestAnimationFrame(tick);
})();
