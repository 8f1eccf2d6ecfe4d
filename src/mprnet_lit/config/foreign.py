"""Rules for keys outside the schema: arguments of the classes that ``_target_`` names."""

from mprnet_lit.config.rules import (
    CORES,
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    NULL,
    NUMBER,
    POSITIVE,
    SEED,
    SHARE,
    Rule,
    listed,
    number,
    one_of,
    same,
    spread,
    text,
    whole,
)

_NOT_ZERO = Rule("a whole number other than 0", lambda v: whole(-999).accepts(v) and v != 0)
_BATCHES = Rule(
    "a whole number of batches, 0 or more, or a share of them from 0.0 to 1.0",
    lambda v: whole(0).accepts(v) or (isinstance(v, float) and 0 <= v <= 1),
)
_DEVICES = Rule(
    "a number of devices, 1 or more, or a list of the devices' indices, or -1 or auto for all",
    lambda v: (
        (whole(-1, CORES).accepts(v) and v != 0)
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

FOREIGN: dict[str, dict[str, Rule]] = {
    "trainer": {
        "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
        "devices": _DEVICES,
        "num_nodes": whole(1, 2**20),
        "strategy": _STRATEGY,
        "precision": one_of(
            *("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
            *("transformer-engine", "transformer-engine-float16", "32", "bf16", "16", "64"),
        ),
        "max_time": _DURATION | NULL,
        "gradient_clip_val": NOT_NEGATIVE | NULL,
        "log_every_n_steps": whole(0),
        "deterministic": FLAG | one_of("warn"),
        "profiler": one_of("simple", "advanced", "pytorch", "xla") | NULL,
    }
    | same(whole(-1), "max_epochs max_steps num_sanity_val_steps")
    | same(COUNT, "accumulate_grad_batches check_val_every_n_epoch")
    | same(_BATCHES, "limit_train_batches limit_val_batches")
    | same(FLAG, "detect_anomaly use_distributed_sampler enable_model_summary"),
    "optimizer": {"_partial_": FLAG, "lr": POSITIVE},
    "torch.optim.Adam*": {
        "betas": listed(number(0, below=1), 2),
        "eps": POSITIVE,
        "weight_decay": NOT_NEGATIVE,
    },
    "torch.optim.SGD": {
        "momentum": number(0, below=1),
        "nesterov": FLAG,
        "weight_decay": NOT_NEGATIVE,
    },
    "mprnet_lit.training.losses.MultiStageLoss": {
        "edge_weight": NOT_NEGATIVE,
        "clamp": FLAG,
        "eps": POSITIVE,
    },
    "mprnet_lit.data.P*": {"split": one_of("train", "val")},  # Photos and Prepared
    "mprnet_lit.data.degradations.*": {
        "clip": FLAG,
        "shot": spread(POSITIVE),
        "read": spread(NOT_NEGATIVE) | NULL,
        "quality": spread(number(1, 100)),
        "weights": listed(NOT_NEGATIVE, least=1) | NULL,
    }
    | same(spread(NOT_NEGATIVE), "sigma length noise layers density width angle")
    | same(spread(SHARE), "shake brightness haze"),
    "albumentations.*": {"p": SHARE},
    "albumentations.ColorJitter": {"hue": spread(number(-0.5, 0.5))}
    | same(spread(NOT_NEGATIVE), "brightness contrast saturation"),
    "lightning.pytorch.callbacks.ModelCheckpoint": {
        "mode": one_of("min", "max"),
        "save_top_k": whole(-1),
        "every_n_epochs": whole(0) | NULL,
        "save_on_train_epoch_end": FLAG | NULL,
        "enable_version_counter": FLAG,
    },
    "lightning.pytorch.callbacks.EMAWeightAveraging": {"decay": SHARE},
    "lightning.pytorch.loggers.TensorBoardLogger": {"default_hp_metric": FLAG},
    "lightning.pytorch.loggers.WandbLogger": {"offline": FLAG},
    "benchmark": {"images": COUNT},
    "benchmark.sets.*": {"images": COUNT},
    "benchmark*.published.*": {"psnr": NUMBER, "ssim": number(-1, 1), "tlc": FLAG},
    "hydra_plugins.mprnet_lit_optuna.OptunaSweeper": {"seed": SEED}
    | same(COUNT, "trials jobs startup_trials"),
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": {"max_batch_size": COUNT | NULL},
    "hydra_plugins.hydra_joblib_launcher.*": {
        "n_jobs": _NOT_ZERO | NULL,
        "verbose": whole(0),
        "timeout": POSITIVE | NULL,
    },
    "hydra.launcher.ray.remote": {"num_cpus": NOT_NEGATIVE | NULL, "num_gpus": NOT_NEGATIVE},
    "hydra_plugins.hydra_submitit_launcher.*": {"stderr_to_stdout": FLAG}
    | same(COUNT, "timeout_min nodes tasks_per_node array_parallelism")
    | same(COUNT | NULL, "cpus_per_task cpus_per_gpu")
    | same(whole(0) | NULL, "gpus_per_node gpus_per_task")
    | same(whole(0), "max_num_timeout signal_delay_s"),
}
"""Rules by section and key.

A section is the dotted key of a node, or the class that the ``_target_`` of a node names; ``*``
matches any text. Keys without a rule are not checked: custom classes may have any arguments.
"""
