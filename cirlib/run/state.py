"""The state of an unfinished training on disk: written whole, gone on with, or refused.

``state.safetensors`` holds weights, Adam's moments and, in its header, settings, step and log;
``log.csv`` beside it is for people to look at. Both lie in ``paths.RUNS / profile / model``.
"""

import csv
import json
from pathlib import Path

import torch
from torch import Tensor

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.base.files import UserError, atomic, remove_leftovers, say
from cirlib.training import Training

# What may be another where a training goes on from shipped weights: on another machine, say.
MAY_DIFFER = ("steps", "batch", "images", "photos", "fingerprint", "drawn")
HEADER = ("config", "began", "continued", "step", "seconds", "rows")  # of a training, in the file


class TrainingState:
    """Where a training is kept while it is not over."""

    def __init__(self, training: Training):
        self.training = training
        self.folder = paths.RUNS / training.profile.name / training.net.model.name
        self.file, self.log_file = self.folder / "state.safetensors", self.folder / "log.csv"

    def save(self) -> None:
        """Write the state, and the log beside it for people to look at.

        Raises UserError when the last update has spoilt the network: the state before it is the
        better one.
        """
        training = self.training
        training.check()
        tensors = training.net.state_dict() | _moments(training)
        header = {name: getattr(training, name) for name in HEADER}
        checkpoints.write_tensors(self.file, tensors, header)
        with atomic(self.log_file) as temporary:
            temporary.write_text(training.log)

    @property
    def saved(self) -> int:
        """The step of the state on disk, 0 where there is none.

        Read from there: Ctrl-C may come just after the state was written.
        """
        return checkpoints.read_tensors(self.file)[1]["step"] if self.file.exists() else 0

    def forget(self) -> None:
        """Delete the state on disk and its log."""
        for file in (self.file, self.log_file):
            file.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete what killed runs left of writing the files of this training."""
        shipped = checkpoints.files(self.training.net.model.name, self.training.profile.name)
        for file in (self.file, self.log_file, *shipped.values()):
            remove_leftovers(file)

    def resume(self, further: bool = False, again: int = 0) -> None:
        """Go on from the state on disk, else from the checkpoint of an unfinished training.

        further: of a finished one, too, which gets more steps. again: in so many of these its
        search is open once more, and lambda1 may be another.

        Raises UserError when it is damaged, belongs to other settings, or is further on already.
        """
        if not self.file.exists():
            self._resume_from_checkpoint(further, again)
            return
        training = self.training
        tensors, header = checkpoints.read_tensors(self.file)
        if not set(HEADER) <= header.keys():
            raise self._foreign_state()
        if further and header["step"] == header["config"]["steps"]:
            self._resume_from_checkpoint(further, again)
            return
        self._check_settings(header["config"], header["step"], self.folder)
        own = {name: value for name, value in tensors.items() if not name.startswith("adam.")}
        try:
            training.net.load_state_dict(own)
            _restore_moments(training, tensors)
        except (RuntimeError, KeyError) as error:
            raise self._foreign_state() from error
        if training.net.model.searched and training.net.frozen:
            training.net.freeze()  # anew: some of it is not on disk
        training.step, training.seconds = header["step"], header["seconds"]
        training.rows, training.began = header["rows"], header["began"]
        training.continued = header["continued"]

    def _resume_from_checkpoint(self, further: bool, again: int) -> None:
        """Go on from shipped weights where their card says that their training is not over.

        further: also where it is. Rates are then those of a training of so many steps at this one.

        Adam's moments are not shipped: they begin anew, and the rate is warmed up again. What
        MAY_DIFFER from before is told in the card, stretch by stretch.
        """
        training, profile = self.training, self.training.profile
        name = training.net.model.name
        if not checkpoints.exists(name, profile.name):
            return
        card = checkpoints.load_card(name, profile.name)
        place = checkpoints.find(name, profile.name)
        finished = card["steps_done"] >= card["steps"]
        if finished:
            if not further:
                return
            if training.steps <= card["steps_done"]:
                raise UserError(f"{place['weights']} has had {card['steps_done']} steps already: "
                                "ask for more in all, by --steps")  # fmt: skip
            if again > (left := training.steps - card["steps_done"]):
                raise UserError(f"the search cannot be open --again for {again} of {left} steps: "
                                "ask for more in all, by --steps")  # fmt: skip
        may_differ = MAY_DIFFER + (("lambda1",) if finished else ())  # its search is over, or anew
        former = {key: card.get(key) for key in may_differ}
        same = card | {key: _as_from_json(training.config[key]) for key in may_differ}
        self._check_settings(same, card["steps_done"], place["weights"])
        training.net.load_state_dict(checkpoints.load(name, profile.name).state_dict())
        say(f"going on from {place['weights']}, step {card['steps_done']}")
        training.step, training.seconds = card["steps_done"], 3600 * card["hours"]
        with open(place["log"], newline="") as log:
            rows = [{key: float(x) for key, x in row.items()} for row in csv.DictReader(log)]
        training.rows = [row | {"step": int(row["step"])} for row in rows]
        stretch = training.began | {"step": training.step, "until_then": former}
        if finished and again:
            stretch["again"] = again
        training.continued = [*card["continued"], stretch]
        training.began = card["began"]
        if training.net.model.searched:  # what stopped early was frozen to be shipped
            training.net.frozen.fill_(False)  # if it is to be, the next step does it again

    def _foreign_state(self) -> UserError:
        return UserError(f"{self.file} is of another version: start anew with --fresh")

    def _check_settings(self, found: dict, step: int, place: Path) -> None:
        """Raises UserError unless what was trained with these settings can be gone on with.

        The number of steps may change as long as nothing has hung on it.
        """
        profile, wanted = self.training.profile, _as_from_json(self.training.config)
        if wanted["steps"] < step:
            raise UserError(
                f"{place} holds a training that has done {step} of "
                f"{found.get('steps')} steps, more than the {wanted['steps']} asked for: "
                "ask for as many as it was begun with, or start anew with --fresh"
            )
        changed = [key for key in wanted if wanted[key] != found.get(key)]
        constant = min((*profile.halve_at, profile.anneal_from))  # fraction of the steps
        constant *= min(wanted["steps"], found.get("steps", 0))
        if not self.training.net.model.fine_tuned and step <= constant:
            changed = [key for key in changed if key != "steps"]
        if changed:
            raise UserError(
                f"{place} holds a training with other settings ("
                + ", ".join(f"{key} {found.get(key)} there, {wanted[key]} here" for key in changed)
                + "): use the same, or start anew with --fresh"
            )


def _as_from_json(value):
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def _moments(training: Training) -> dict[str, Tensor]:
    """Adam's moments under the names of their parameters."""
    return {
        f"adam.{key}.{training.names[id(parameter)]}": torch.as_tensor(value)
        for parameter, state in training.optimizer.state.items()
        for key, value in state.items()
    }


def _restore_moments(training: Training, tensors: dict[str, Tensor]) -> None:
    """Put back what _moments took out. Raises KeyError when a part of it is missing."""
    for group in training.optimizer.param_groups:
        for parameter in group["params"]:
            name = training.names[id(parameter)]
            if f"adam.step.{name}" not in tensors:
                continue  # has had no gradient yet
            # channels_last weights keep channels_last moments, as in an unbroken run
            state = {
                key: torch.empty_like(parameter).copy_(tensors[f"adam.{key}.{name}"])
                for key in ("exp_avg", "exp_avg_sq")
            }
            # the fused Adam of GPUs wants its step count beside the weights, the other on the CPU
            device = parameter.device if group["fused"] else "cpu"
            state["step"] = tensors[f"adam.step.{name}"].to(device, copy=True)
            training.optimizer.state[parameter] = state
