"""The batch: every notebook, run with the parameters of a profile, as a graph of files.

    make reproduce PROFILE=compact

One rule a notebook, made from the catalogue of items. Everything is written below data/mine/ (or
CIRLIB_OUTPUT): executed copies, results, figures, networks. Sources are never written over.
"""

import json
import shlex
import sys
from pathlib import Path

from cirlib import checkpoints, profiles
from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.data.datasets import photographs
from cirlib.report import batch, catalogue

# --config limit=10 crop=192 for more or less; a relative folder is seen from where one types.
try:
    SETTINGS = batch.settings(config, Path.cwd())
    PROFILE, IMAGES = SETTINGS["profile"], SETTINGS["images"]
    PHOTOS = photographs(IMAGES)
except UserError as error:
    sys.exit(f"error: {error}")

# Outputs are relative to where cirlib writes, so that `snakemake results/...` names them.
workdir: paths.OUTPUT


def below(files):
    """Paths as the rules know them."""
    return [str(file.relative_to(paths.OUTPUT)) for file in files]


def trained(models, profile="smoke"):
    """The files of networks that the training notebooks make, whatever the profile."""
    return below(file for model in models for file in checkpoints.files(model, profile).values())


def weights(model):
    """The file of a network that is measured."""
    return next(file for file in NETWORKS if Path(file).name == f"{model}.safetensors")


def found(profile):
    """The files of the networks of a profile that are there, those of the ablations included."""
    there = checkpoints.available(profile) or ["cresmd"]
    there = [*there, *checkpoints.available(profile, profiles.ABLATIONS)]
    return [str(checkpoints.find(model, profile)["weights"]) for model in there]


# The networks that are measured: made here, or those of the profile that are there.
FOUND = [] if PROFILE == "smoke" else found(PROFILE)
NETWORKS = FOUND or trained(profiles.MODELS)
MODELS = checkpoints.available(PROFILE) or ["cresmd"] if FOUND else list(profiles.MODELS)

measured = {key: SETTINGS[key] for key in ("limit", "crop")} | {"images": IMAGES, "seed": 0}
ablated = measured | {"crop": SETTINGS["ablation_crop"]}
timed = {key: SETTINGS[key] for key in ("latency_sizes", "rounds", "runs")}
training = {"train_profile": "smoke", "seed": 0}
PARAMETERS = {name: training for name in catalogue.CHAPTERS if catalogue.models(name)} | {
    "20_cost_and_latency": timed,
    "21_quality": measured,
    "30_ablation_pressure": ablated,
    "31_ablation_sharing": ablated,
    "41_modulation_quality": measured,
}


def source(name):
    """A notebook, and the module that changed last: a change of either makes results old."""
    modules = (paths.ROOT / "cirlib").glob("**/*.py")
    modules = [module for module in modules if "tests" not in module.parts]
    newest = max(modules, key=lambda module: module.stat().st_mtime)
    return [str(paths.NOTEBOOKS / f"{name}.ipynb"), str(newest)]


def size(name):
    return catalogue.size(name, PROFILE)


def executed(name):
    return below([paths.EXECUTED / size(name) / f"{name}.ipynb"])


def parameters(name, **chosen):
    """The parameters of a notebook as JSON, once they are known to exist."""
    if workflow.is_main_process:  # not again in each job on a cluster
        batch.check_parameters(paths.NOTEBOOKS / f"{name}.ipynb", chosen)
    return json.dumps(chosen)


# Runs a notebook. What differs between rules of the loop is in params, which are fixed with a rule;
# a shell command is made anew when it runs.
PYTHON = shlex.quote(sys.executable)
ALL_CORES = workflow.resource_settings.cores or 2  # without --cores, on a cluster: those of a node
ARGUMENTS = "{input[0]:q} {output[0]:q} {params.place} {params.told:q}"
RUN = f"{PYTHON} -m cirlib.report.batch {ARGUMENTS}"

# All cores for each rule: Snakemake runs one at a time then, and tells torch that number. What a
# notebook has written before gets the flag "update": it stays as it was when the notebook fails.
before = []  # the models that training notebooks have made so far
for NAME in catalogue.CHAPTERS:
    makes = catalogue.models(NAME)
    shown = FOUND if makes else NETWORKS
    needs = shown if size(NAME) == PROFILE else found(size(NAME))
    needs = needs + trained(before) if makes else needs
    there = MODELS if size(NAME) == PROFILE else checkpoints.available(size(NAME))
    title, written = NAME[3:], catalogue.written(NAME, size(NAME), there)
    chosen = {"profile": size(NAME)} | PARAMETERS.get(NAME, {})

    rule:
        name: title
        input: source(NAME), needs
        output: executed(NAME), trained(makes), update(below(written))
        params: place=catalogue.place(NAME), told=parameters(NAME, **chosen)
        threads: ALL_CORES
        shell: RUN

    before += makes


rule all:
    default_target: True
    input: [executed(name) for name in catalogue.CHAPTERS]


# `snakemake --cores all full_table2`: Table 2 over all photographs, whole. It takes hours, so it is
# no part of the batch. A photo and model is a job of one core, since most metrics use no more; a
# cluster spreads them (cirlib/run/slurm). What is done stays.
FULL, LABELS = paths.RUNS / PROFILE / "full_table2", [photo.name for photo in PHOTOS]

rule full_scores:
    input: lambda wildcards: weights(wildcards.model)
    output: below([FULL / "{model}/{photo}.csv", FULL / "{model}/{photo}.json"])
    params:
        share=lambda wildcards: f"{1 + LABELS.index(wildcards.photo)}/{len(LABELS)}",
        keep=lambda wildcards: FULL / wildcards.model,
        images=IMAGES,
    threads: 1
    shell:
        f"{PYTHON} -m cirlib evaluate --model {{wildcards.model}}"
        f" --profile {PROFILE} --images {{params.images:q}} --keep {{params.keep:q}}"
        " --share {params.share}"


rule full_table2:
    input:
        source("21_quality"),
        below(FULL / model / f"{label}.csv" for model in MODELS for label in LABELS),
    output: executed("full_table2")
    params:
        place=catalogue.place("21_quality"),
        told=parameters("21_quality", profile=PROFILE, images=IMAGES, seed=0, limit=0, crop=0,
                        keep=str(FULL)),
    threads: ALL_CORES
    shell: RUN


# `snakemake --cores all trainings --config profile=full train_images=bsd432+clic`: all models, a job
# each, CResMD before the others. A job that was killed goes on from its state.
def is_trained(model):
    return below([paths.RUNS / PROFILE / f"{model}.trained"])

rule training:
    input: lambda wildcards: [] if wildcards.model == "cresmd" else is_trained("cresmd")
    output: touch(is_trained("{model}"))
    params:
        images=SETTINGS["train_images"],
        steps=f" --steps {SETTINGS['train_steps']}" if SETTINGS["train_steps"] else "",
    threads: ALL_CORES
    shell:
        f"{PYTHON} -m cirlib train --model {{wildcards.model}} --profile {PROFILE}"
        " --images {params.images:q}{params.steps}"


rule trainings:
    input: [is_trained(model) for model in profiles.MODELS],
