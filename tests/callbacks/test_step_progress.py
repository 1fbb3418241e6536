"""The progress bar names no epochs."""

from pisa.callbacks.step_progress import StepProgressBar
from pisa.tasks.psft import PSFT
from tests.tasks.toy import ToyData, make_trainer, toy_model


def test_a_run_of_steps_shows_no_epochs(tmp_path, capsys):
    bar = StepProgressBar(refresh_rate=1, leave=True)
    trainer = make_trainer(tmp_path, 3, bar, logger=False, enable_progress_bar=True)
    trainer.fit(PSFT(toy_model()), ToyData())
    shown = capsys.readouterr().out
    assert "Training" in shown and "Epoch" not in shown
    assert bar.train_progress_bar is not None
