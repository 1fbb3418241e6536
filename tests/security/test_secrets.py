"""What is written, logged or published holds no secret of the environment or the configuration."""

from __future__ import annotations

import pytest
import yaml
from omegaconf import OmegaConf

from pisa.io.secrets import MARK, redacted, secret_values
from pisa.launch.compose import public_config, public_yaml
from pisa.launch.hub import model_card

PLANTED = "planted-31f7c2d9"


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "a1" * 12,
        "ghp_" + "Z9" * 15,
        "github_pat_" + "a1_" * 10,
        "sk-proj-" + "x" * 24,
        "AKIAABCDEFGHIJKLMNOP",
        "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_keys_of_known_services_are_hidden_anywhere(text):
    assert redacted({"a": [f"see {text}!"]}, {}) == {"a": [f"see {MARK}!"]}


@pytest.mark.parametrize("name", ["token", "hf_token", "API-KEY", "wandb_api_key", "db.password"])
def test_what_stands_under_a_secret_name_is_hidden(name):
    assert redacted({name: "abc", "x": {name: "d"}}, {}) == {name: MARK, "x": {name: MARK}}


def test_settings_of_the_project_are_left_as_they_are():
    plain = {
        "max_tokens": 512, "tokenizer": "t5", "keep_all": False, "monkey": "king", "author": "me",
        "revision": "0123456789abcdef0123456789abcdef01234567", "token": None, "key": "x/y",
        "api_key": "${oc.env:API_KEY}",
    }  # fmt: skip
    assert redacted(plain, {"HOME": "/home/king"}) == plain


def test_values_of_secret_variables_are_hidden_wherever_they_are():
    environ = {"SERVICE_TOKEN": PLANTED, "SHORT_TOKEN": "abc", "PATH": "/usr/bin"}
    assert secret_values(environ) == [PLANTED]
    assert redacted(f"at /usr/bin, {PLANTED}x, abc", environ) == f"at /usr/bin, {MARK}x, abc"


def test_passwords_in_addresses():
    assert redacted("git+https://me:pw@host/x", {}) == f"git+https://{MARK}@host/x"
    assert redacted("https://host/a@b", {}) == "https://host/a@b"


def test_variables_that_a_configuration_asks_for_are_secret(monkeypatch):
    monkeypatch.setenv("INNOCENT", PLANTED)
    cfg = OmegaConf.create({"a": "${oc.env:INNOCENT}", "b": "${a}", "c": 1})
    assert public_config(cfg, resolve=True) == {"a": MARK, "b": MARK, "c": 1}
    assert yaml.safe_load(public_yaml(cfg)) == {"a": "${oc.env:INNOCENT}", "b": "${a}", "c": 1}


def test_a_published_model_card_hides_what_an_old_run_recorded(tmp_path):
    (tmp_path / "config.yaml").write_text(f"name: x\nhub:\n  token: {PLANTED}\n")
    assert PLANTED not in str(model_card(tmp_path))
