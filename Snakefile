"""The batch: every notebook, run with the parameters of a profile, as a graph of files.

    make reproduce PROFILE=compact

One rule a notebook. Its executed copy is an output, too: in a fresh clone, where committed results
are there but executed copies are not, everything runs. Sources are never written over.
"""

import shlex
import sys

from cirlib import checkpoints, profiles
from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.base.provenance import place
from cirlib.data.datasets import default_test_set, photographs, spread
from cirlib.measure import ablations
from cirlib.measure.latency import INPUT
from cirlib.report.catalogue import FIGURE6
from cirlib.report.notebooks import CELL_TIMEOUT, KERNEL, check
from cirlib.report.quality import whole_photos

PROFILE = profiles.get_profile(config.get("profile", "compact")).name
IMAGES = config.get("images", "embedded" if PROFILE == "smoke" else default_test_set())
try:
    PHOTOS = photographs(IMAGES)
except UserError:
    PHOTOS = []  # the notebooks say why
# How much is measured; --config limit=10 crop=192 for more or less.
ASKED = {key: int(config[key]) for key in ("limit", "crop") if key in config}
EXTENT = {
    "smoke": {"limit": 1, "crop": 64},
    "compact": {"limit": 10, "crop": 128},
    "paper": {"limit": 0, "crop": 0},  # all images, whole
}[PROFILE] | ASKED
# Four metrics of five models; the committed table is a larger run.
QUALITY_EXTENT = EXTENT | ({"limit": 2} if PROFILE == "compact" else {}) | ASKED
# The ablations are many: fewer images.
ABLATION_EXTENT = {
    "smoke": {"limit": 1, "crop": 48},
    "compact": {"limit": 2, "crop": 96},
    "paper": {"limit": 0, "crop": 0},
}[PROFILE] | ASKED

# Images on which latencies are measured, and how often. 2K and 4K of Table 1 and the largest images
# take minutes each: rows of earlier runs on them are kept. --config latency_sizes=... for others.
LATENCY = {
    "smoke": {"latency_sizes": "160x90", "growth_sizes": "80x60,160x120", "rounds": 1},
    "compact": {"latency_sizes": "1280x720", "growth_sizes": "368x272", "rounds": 2},
    "paper": {
        "latency_sizes": "1280x720,2048x1080,3840x2160",
        "growth_sizes": "368x272,640x480,1280x960,2304x1728,3264x2448",
        "rounds": 5,
    },
}[PROFILE]
LATENCY |= {key: config[key] for key in LATENCY if key in config}

# Outputs are relative to where cirlib writes, so that `snakemake data/results/...` names them.
workdir: paths.OUTPUT


def below(folder, *names):
    """Paths as the rules know them."""
    return [str((folder / name).relative_to(paths.OUTPUT)) for name in names]


def source(name):
    """A notebook, and the module that changed last: a change of either makes results old."""
    modules = (paths.ROOT / "cirlib").glob("**/*.py")
    newest = max(modules, key=lambda module: module.stat().st_mtime)
    return [str(paths.NOTEBOOKS / f"{name}.ipynb"), str(newest)]


def executed(name):
    return below(paths.OUTPUT / "data" / "executed" / PROFILE, f"{name}.ipynb")


# What is committed gets the flag "update": it stays as it was when its notebook fails.
def results(*names, at=PROFILE):
    files = [f"{name}.{suffix}" for name in names for suffix in ("csv", "json")]
    return update(below(paths.RESULTS / at, *files))


def figures(*names, at=PROFILE):
    files = [f"{name}.{suffix}" for name in names for suffix in ("pdf", "png", "json")]
    return update(below(paths.FIGURES / at, *files))


def table(name, at=PROFILE):
    return update(below(paths.FIGURES / at, f"{name}.md"))


def placed(name, models, limit, crop):
    """Where a notebook writes its results: apart, if there are some of a larger run."""
    facts = {"photos": len(spread(PHOTOS, limit)), "crop": crop or None, "data": IMAGES,
             "weights": checkpoints.fingerprint(PROFILE, models)}
    return place(PROFILE, name, facts)


def pictures(suffix, *names, at=PROFILE):
    files = [f"{name}.{ending}" for name in names for ending in (suffix, "json")]
    return update(below(paths.FIGURES / at, *files))


def trained(*models):
    """The networks that the training notebooks make, whatever the profile."""
    files = [f"{model}.{suffix}" for model in models for suffix in ("safetensors", "json", "csv")]
    return below(paths.CHECKPOINTS / "smoke", *files)


# The networks that are measured: made here, or those of the profile that are there.
if PROFILE == "smoke":
    MODELS, FOUND = list(profiles.MODELS), []
    NETWORKS = below(paths.CHECKPOINTS / "smoke", *(f"{model}.safetensors" for model in MODELS))
else:
    MODELS = checkpoints.available(PROFILE) or ["cresmd"]
    NETWORKS = FOUND = [str(checkpoints.find(model, PROFILE)["weights"]) for model in MODELS]
ABLATIONS = [str(checkpoints.find(model, PROFILE)["weights"])
             for model in checkpoints.available(PROFILE, profiles.ABLATIONS)]


def curves(name, *models):
    """The training log as a figure, if the profile has one of the models."""
    return figures(name) if set(models) & set(MODELS) else []


def run(name, **parameters):
    """The command that runs a notebook, once its parameters are known to exist."""
    check(paths.NOTEBOOKS / f"{name}.ipynb", parameters)
    options = ["--kernel", KERNEL["name"], "--cwd", str(paths.NOTEBOOKS), "--no-progress-bar",
               "--execution-timeout", str(CELL_TIMEOUT)]
    for item in parameters.items():
        options += ["-p", *map(str, item)]
    command = shlex.join([sys.executable, "-m", "papermill", *options])
    return command.replace("{", "{{").replace("}", "}}") + " {input[0]:q} {output[0]:q}"


# All cores for each rule: Snakemake runs one at a time then, and tells torch that number.
rule start_here:
    input: source("00_start_here"), NETWORKS
    output: executed("00_start_here"), figures("start_here")
    threads: workflow.cores
    shell: run("00_start_here", profile=PROFILE)


rule data_synthesis:
    input: source("01_data_synthesis")
    output:
        executed("01_data_synthesis"),
        figures("degradations", "samplings", "relative_pairs"),
    threads: workflow.cores
    shell: run("01_data_synthesis", profile=PROFILE)


# These train the smoke profile, and show the logs of the networks found.
rule train_cresmd:
    input: source("10_train_cresmd"), FOUND
    output:
        executed("10_train_cresmd"),
        trained("cresmd"),
        curves("training_cresmd", "cresmd"),
    threads: workflow.cores
    shell: run("10_train_cresmd", profile=PROFILE, train_profile="smoke", seed=0)


rule train_tsnet:
    input: source("11_train_tsnet"), FOUND, trained("cresmd")
    output:
        executed("11_train_tsnet"),
        trained("tsnet"),
        curves("training_tsnet", "tsnet"),
    threads: workflow.cores
    shell: run("11_train_tsnet", profile=PROFILE, train_profile="smoke", seed=0)


rule train_ta_tsnet:
    input: source("12_train_ta_tsnet"), FOUND, trained("cresmd")
    output:
        executed("12_train_ta_tsnet"),
        trained("ta-tsnet"),
        curves("training_ta_tsnet", "ta-tsnet"),
    threads: workflow.cores
    shell: run("12_train_ta_tsnet", profile=PROFILE, train_profile="smoke", seed=0)


rule train_relative:
    input: source("13_train_relative"), FOUND, trained("cresmd", "tsnet", "ta-tsnet")
    output:
        executed("13_train_relative"),
        trained("tsnet-m", "ta-tsnet-m"),
        curves("training_relative", "tsnet-m", "ta-tsnet-m"),
    threads: workflow.cores
    shell: run("13_train_relative", profile=PROFILE, train_profile="smoke", seed=0)


TIMED = place(PROFILE, "roofline", {"size": LATENCY["latency_sizes"].split(",")[0]} | INPUT)

rule cost_and_latency:
    input: source("20_cost_and_latency"), NETWORKS
    output:
        executed("20_cost_and_latency"),
        results("cost"),
        table("table1_flops"),
        figures("cost_growth", "cost_per_task", "figure5"),
        results("latency", "roofline", "alternatives", at=TIMED),
        table("table1_latency", at=TIMED),
        table("alternatives", at=TIMED),
        figures("roofline", "time_growth", at=TIMED),
    threads: workflow.cores
    shell: run("20_cost_and_latency", profile=PROFILE, **LATENCY)


QUALITY = placed("table2", profiles.MODELS, **QUALITY_EXTENT)

# What it tells of whole photographs, if `python -m cirlib evaluate --csv` has measured some.
WHOLE = []
if PROFILE != "smoke" and whole_photos(PROFILE)[0]:
    WHOLE = [results("table2_whole"), table("table2_whole"), table("table2_whole_claims")]

rule quality:
    input: source("21_quality"), NETWORKS
    output:
        executed("21_quality"),
        results("table2", *(f"best_scores_{model}" for model in MODELS), at=QUALITY),
        table("table2", at=QUALITY),
        table("table2_claims", at=QUALITY),
        results("ssim_variants", at=QUALITY),
        table("ssim_variants", at=QUALITY),
        figures("best_levels", "best_effect", at=QUALITY),
        WHOLE,
    threads: workflow.cores
    shell: run("21_quality", profile=PROFILE, images=IMAGES, seed=0, **QUALITY_EXTENT)


# `snakemake --cores all full_table2`: the same over all photographs, whole. It takes hours, so it is
# no part of the batch. A photo and model is a job, which a cluster can spread (--executor); what is
# done stays.
FULL = paths.RUNS / PROFILE / "full_table2"

rule full_scores:
    input: lambda wildcards: dict(zip(MODELS, NETWORKS))[wildcards.model]
    output: below(FULL, "{model}/{photo}.csv", "{model}/{photo}.json")
    params:
        share=lambda wildcards: "{}/{}".format(
            1 + [photo.name for photo in PHOTOS].index(wildcards.photo), len(PHOTOS)
        ),
        keep=lambda wildcards: FULL / wildcards.model,
        images=IMAGES,
    threads: min(2, workflow.cores)  # of this machine or of a node of the cluster
    shell:
        f"{shlex.quote(sys.executable)} -m cirlib evaluate --model {{wildcards.model}}"
        f" --profile {PROFILE} --images {{params.images:q}} --keep {{params.keep:q}}"
        " --share {params.share}"


rule full_table2:
    input:
        source("21_quality"),
        [below(FULL, f"{model}/{photo.name}.csv") for model in MODELS for photo in PHOTOS],
    output: executed("full_table2")
    threads: workflow.cores
    shell: run("21_quality", profile=PROFILE, images=IMAGES, seed=0, limit=0, crop=0, keep=FULL)


PRESSURE = placed("figure7", ablations.FIGURE7, **ABLATION_EXTENT)
SHARING = placed("table3", ablations.TABLES_3_4, **ABLATION_EXTENT)

rule ablation_pressure:
    input: source("30_ablation_pressure"), NETWORKS, ABLATIONS
    output:
        executed("30_ablation_pressure"),
        results("figure7", at=PRESSURE),
        table("figure7", at=PRESSURE),
        table("figure7_claims", at=PRESSURE),
        figures("figure7", at=PRESSURE),
    threads: workflow.cores
    shell: run("30_ablation_pressure", profile=PROFILE, images=IMAGES, seed=0, **ABLATION_EXTENT)


rule ablation_sharing:
    input: source("31_ablation_sharing"), NETWORKS, ABLATIONS
    output:
        executed("31_ablation_sharing"),
        results("table3", "table4", at=SHARING),
        table("table3", at=SHARING),
        table("table3_claims", at=SHARING),
        table("table4", at=SHARING),
        table("table4_claims", at=SHARING),
    threads: workflow.cores
    shell: run("31_ablation_sharing", profile=PROFILE, images=IMAGES, seed=0, **ABLATION_EXTENT)


rule modulation_figures:
    input: source("40_modulation_figures"), NETWORKS
    output:
        executed("40_modulation_figures"),
        pictures("jpg", "figure6", *(f"figure{number}" for number in range(9, 17))),
        pictures("webp", "figure1", *(f"figure6_{row}" for row in FIGURE6)),
    threads: workflow.cores
    shell: run("40_modulation_figures", profile=PROFILE, seed=0)


MODULATION = placed("modulation", profiles.MODELS, **EXTENT)
# NIQE, with which suggestions are compared, needs 192 pixels.
SUGGEST_CROP = {"smoke": 64, "compact": 192, "paper": 0}[PROFILE]

rule modulation_quality:
    input: source("41_modulation_quality"), NETWORKS
    output:
        executed("41_modulation_quality"),
        results("modulation", "modulation_steps", "suggest", at=MODULATION),
        table("modulation", at=MODULATION),
        table("modulation_claims", at=MODULATION),
        table("modulation_counts", at=MODULATION),
        table("suggest", at=MODULATION),
        pictures("jpg", "figure8a", at=MODULATION),
        figures("figure8b", "modulation", at=MODULATION),
    threads: workflow.cores
    shell:
        run("41_modulation_quality", profile=PROFILE, images=IMAGES, seed=0,
            suggest_crop=SUGGEST_CROP, **EXTENT)


rule slider_demo:
    input: source("50_slider_demo"), NETWORKS
    output:
        executed("50_slider_demo"),
        figures("demo_strip"),
        pictures("webp", "demo_sweep"),
    threads: workflow.cores
    shell: run("50_slider_demo", profile=PROFILE)


# figures/index.md, and the status table of README.md where results go to the repository.
rule index:
    input:
        rules.start_here.output,
        rules.data_synthesis.output,
        rules.train_cresmd.output,
        rules.train_tsnet.output,
        rules.train_ta_tsnet.output,
        rules.train_relative.output,
        rules.cost_and_latency.output,
        rules.quality.output,
        rules.ablation_pressure.output,
        rules.ablation_sharing.output,
        rules.modulation_figures.output,
        rules.modulation_quality.output,
        rules.slider_demo.output,
    output: update("figures/index.md")
    shell: f"{shlex.quote(sys.executable)} -m cirlib.report.index"


rule all:
    default_target: True
    input: rules.index.output
