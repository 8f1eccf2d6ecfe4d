"""Rules for the settings of the configuration, in one table."""

from mprnet_lit.config.rules import (
    FLAG,
    NULL,
    Rule,
    listed,
    number,
    one_of,
    spread,
    text,
    whole,
)

_SEED = whole(0, 2**32 - 1)
_COUNT = whole(1)
_NOT_NEGATIVE = number(0)
_POSITIVE = number(above=0)
_SHARE = number(0, 1)
_SIDE = whole(8, multiple=8)
_CHANNELS = whole(1, 4096)
_MOST_CORES = 1024
_SPLIT = one_of("train", "val")
_TEXT = text(".*", "text")
_BATCHES = Rule(
    "a whole number of batches, 0 or more, or a share of them from 0.0 to 1.0",
    lambda v: whole(0).accepts(v) or (isinstance(v, float) and 0 <= v <= 1),
)
_DEVICES = Rule(
    "a number of devices, 1 or more, or a list of the devices' indices, or -1 or auto for all",
    lambda v: (
        (whole(-1, _MOST_CORES).accepts(v) and v != 0)
        or listed(whole(0), least=1).accepts(v)
        or text(r"auto|-1|0*[1-9]\d{0,3}|\d+(,\d*)+", "").accepts(v)
    ),
)
_DURATION = text(r"\d+:\d{1,2}:\d{1,2}:\d{1,2}", "a duration DAYS:HOURS:MINUTES:SECONDS") | Rule(
    "a mapping of days, hours, minutes or seconds to numbers",
    lambda v: (
        isinstance(v, dict)
        and len(v) > 0
        and v.keys() <= {"weeks", "days", "hours", "minutes", "seconds"}
        and all(map(number(0, 1e6).accepts, v.values()))
    ),
)
_STRATEGY = Rule(
    "one of auto, ddp, ddp_spawn, ddp_fork, fsdp, fsdp_cpu_offload, single_device, deepspeed or "
    "another that lightning registers",
    text("auto|single_device|(ddp|fsdp|deepspeed|xla)(_[a-z0-9_]+)?", "").accepts,
)

TABLE: dict[str, dict[str, Rule]] = {
    # The root of the configuration; some of the keys exist only in some modes.
    "": {"seed": _SEED, "overwrite": FLAG},
    "inference": {
        "tile": Rule(
            "auto, null, or a positive multiple of 8",
            (_SIDE | NULL | one_of("auto")).accepts,
        ),
        "overlap": whole(0),
        "tile_batch": _COUNT,
        "memory_gb": number(above=0, high=1e6) | NULL,
        "tlc": FLAG,
        "tlc_crop": _SIDE | NULL,
        "self_ensemble": FLAG,
        "precision": one_of("32", "bf16", "16"),
        "device": text(r"auto|[a-z]+(:\d+)?", "auto, cpu, cuda, cuda:1 or the like"),
        "compile": FLAG,
    },
    "restore": {"stages": FLAG, "compare": FLAG, "report": FLAG},
    "evaluate": {"perceptual": FLAG, "on_error": one_of("raise", "skip")},
    "serve": {
        "port": whole(1, 65535),
        "max_mb": number(above=0, high=1e6),
        "max_megapixels": number(above=0, high=1e6),
        "max_gb": number(above=0, high=1e6) | NULL,
        "max_total_mb": number(above=0, high=1e9),
        "max_age_minutes": number(above=0, high=1e7),
    },
    "export": {"int8": FLAG},
    "prepare": {"verify": FLAG},
    "profile": {
        "memory_gb": number(above=0, high=1e6) | NULL,
        "largest_batch": _COUNT,
        "steps": _COUNT,
    },
    "trainer": {
        "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
        "devices": _DEVICES,
        "num_nodes": whole(1, 2**20),
        "strategy": _STRATEGY,
        "precision": one_of(
            *("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
            *("transformer-engine", "transformer-engine-float16", "32", "bf16", "16", "64"),
        ),
        "max_epochs": whole(-1),
        "max_steps": whole(-1),
        "max_time": _DURATION | NULL,
        "accumulate_grad_batches": _COUNT,
        "gradient_clip_val": _NOT_NEGATIVE | NULL,
        "check_val_every_n_epoch": _COUNT,
        "limit_train_batches": _BATCHES,
        "limit_val_batches": _BATCHES,
        "num_sanity_val_steps": whole(-1),
        "log_every_n_steps": whole(0),
        "deterministic": FLAG | one_of("warn"),
        "detect_anomaly": FLAG,
        "profiler": one_of("simple", "advanced", "pytorch", "xla") | NULL,
        "use_distributed_sampler": FLAG,
        "enable_model_summary": FLAG,
    },
    "model": {
        "width": _CHANNELS,
        "unet_step": whole(0, 4096),
        "orsnet_step": whole(0, 4096),
        "cabs_per_orb": whole(1, 1024),
        "reduction": _CHANNELS,
        "start_from_identity": FLAG,
    },
    "optimizer": {"_partial_": FLAG, "lr": _POSITIVE},
    "torch.optim.Adam*": {
        "betas": listed(number(0, below=1), 2),
        "eps": _POSITIVE,
        "weight_decay": _NOT_NEGATIVE,
    },
    "torch.optim.SGD": {
        "momentum": number(0, below=1),
        "nesterov": FLAG,
        "weight_decay": _NOT_NEGATIVE,
    },
    "mprnet_lit.training.schedule.WarmupCosine": {
        "warmup_epochs": _NOT_NEGATIVE,
        "extra_period": _NOT_NEGATIVE,
        "final_lr": _NOT_NEGATIVE,
        "per_step": FLAG,
    },
    "mprnet_lit.training.module.RestorationModule": {
        "mixup_alpha": _NOT_NEGATIVE,
        "mixup_after_epoch": whole(0),
        "channels_last": FLAG,
        "compile": FLAG,
        "gradient_checkpointing": FLAG,
        "seed": _SEED,
    },
    "mprnet_lit.training.losses.MultiStageLoss": {
        "edge_weight": _NOT_NEGATIVE,
        "clamp": FLAG,
        "eps": _POSITIVE,
    },
    "mprnet_lit.data.RestorationDataModule": {
        "patch_size": _SIDE,
        "val_crop_size": _COUNT | NULL,
        "batch_size": _COUNT,
        "crops_per_image": whole(1, 1_000_000),
        "holdout": number(above=0, below=1),
        "on_error": one_of("raise", "skip"),
        "num_workers": whole(0, _MOST_CORES) | NULL,
        "cache_gb": number(0, 1e6),
        "seed": _SEED,
    },
    "mprnet_lit.data.Photos": {"split": _SPLIT},
    "mprnet_lit.data.Prepared": {"split": _SPLIT},
    "mprnet_lit.data.degradations.GaussianNoise": {"sigma": spread(_NOT_NEGATIVE), "clip": FLAG},
    "mprnet_lit.data.degradations.CameraNoise": {
        "shot": spread(_POSITIVE),
        "read": spread(_NOT_NEGATIVE) | NULL,
    },
    "mprnet_lit.data.degradations.MotionBlur": {
        "length": spread(_NOT_NEGATIVE),
        "shake": spread(_SHARE),
        "noise": spread(_NOT_NEGATIVE),
    },
    "mprnet_lit.data.degradations.RainStreaks": {
        "layers": spread(_NOT_NEGATIVE),
        "density": spread(_NOT_NEGATIVE),
        "length": spread(_NOT_NEGATIVE),
        "width": spread(_NOT_NEGATIVE),
        "angle": spread(_NOT_NEGATIVE),
        "brightness": spread(_SHARE),
        "haze": spread(_SHARE),
    },
    "mprnet_lit.data.degradations.Jpeg": {"quality": spread(number(1, 100))},
    "mprnet_lit.data.degradations.RandomChoice": {"weights": listed(_NOT_NEGATIVE, least=1) | NULL},
    "albumentations.*": {"p": _SHARE},
    "albumentations.ColorJitter": {
        "brightness": spread(_NOT_NEGATIVE),
        "contrast": spread(_NOT_NEGATIVE),
        "saturation": spread(_NOT_NEGATIVE),
        "hue": spread(number(-0.5, 0.5)),
    },
    "lightning.pytorch.callbacks.ModelCheckpoint": {
        "mode": one_of("min", "max"),
        "save_top_k": whole(-1),
        "every_n_epochs": whole(0) | NULL,
        "save_on_train_epoch_end": FLAG | NULL,
        "enable_version_counter": FLAG,
    },
    "lightning.pytorch.callbacks.EMAWeightAveraging": {"decay": _SHARE},
    "mprnet_lit.training.callbacks.Panels": {"count": whole(0)},
    "mprnet_lit.training.callbacks.PeerCheck": {"timeout": number(above=0, high=31_536_000)},
    "mprnet_lit.training.callbacks.SkipNonFinite": {"max_consecutive": _COUNT},
    "mprnet_lit.training.callbacks.StopOnSignal": {"requeue": FLAG},
    "mprnet_lit.training.callbacks.LogRun": {
        "log_weights": FLAG,
        "max_weights_mb": _NOT_NEGATIVE,
    },
    "mprnet_lit.sweeps.pruner.Pruner": {
        "startup_trials": _COUNT,
        "warmup_epochs": whole(0),
        "trial": whole(0) | NULL,
    },
    "tracking": {
        "log_weights": FLAG,
        "max_weights_mb": _NOT_NEGATIVE,
        "tags": listed(_TEXT | number()),
    },
    "lightning.pytorch.loggers.TensorBoardLogger": {"default_hp_metric": FLAG},
    "lightning.pytorch.loggers.WandbLogger": {"offline": FLAG},
    "benchmark": {"images": _COUNT},
    "benchmark.sets.*": {"images": _COUNT},
    "benchmark*.published.*": {"psnr": number(), "ssim": number(-1, 1), "tlc": FLAG},
    "sweep": {
        "trials": _COUNT,
        "jobs": _COUNT,
        "startup_trials": _COUNT,
        "objectives": listed(_TEXT),
        "trial": whole(0) | NULL,
    },
    "hydra_plugins.mprnet_lit_optuna.OptunaSweeper": {
        "trials": _COUNT,
        "jobs": _COUNT,
        "startup_trials": _COUNT,
        "seed": _SEED,
    },
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": {"max_batch_size": _COUNT | NULL},
    "hydra_plugins.hydra_joblib_launcher.*": {
        "n_jobs": Rule("a whole number other than 0", lambda v: whole(-999).accepts(v) and v != 0)
        | NULL,
        "verbose": whole(0),
        "timeout": _POSITIVE | NULL,
    },
    "hydra.launcher.ray.remote": {"num_cpus": _NOT_NEGATIVE | NULL, "num_gpus": _NOT_NEGATIVE},
    "hydra_plugins.hydra_submitit_launcher.*": {
        "timeout_min": _COUNT,
        "nodes": _COUNT,
        "tasks_per_node": _COUNT,
        "cpus_per_task": _COUNT | NULL,
        "cpus_per_gpu": _COUNT | NULL,
        "gpus_per_node": whole(0) | NULL,
        "gpus_per_task": whole(0) | NULL,
        "array_parallelism": _COUNT,
        "max_num_timeout": whole(0),
        "signal_delay_s": whole(0),
        "stderr_to_stdout": FLAG,
    },
}
"""Rules by setting, in the sections of the configuration.

The name of a section is its dotted key, or the class that its ``_target_`` names, wherever the
section is; ``*`` matches any text. Settings without a rule are not checked, so classes outside this
package may have any settings.
"""
