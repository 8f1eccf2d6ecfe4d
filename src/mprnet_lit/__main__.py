"""Entry point of the command line: compose the configuration and run its mode."""

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mprnet_lit.cli import command_line, usage
from mprnet_lit.cli.errors import explain_error, fail
from mprnet_lit.config.groups import CONFIG_DIR, modes
from mprnet_lit.config.messages import check_choices, explain, with_keys
from mprnet_lit.config.renamed import refuse_renamed
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.config.values import check_values
from mprnet_lit.runs.folder import note_failure
from mprnet_lit.runs.settings import mask_hydras_records
from mprnet_lit.utils import signals, temp_folder
from mprnet_lit.utils.errors import RefusedError, UserError
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.text import escape_unencodable, printable_lines


def main() -> None:
    """Run the command ``mprnet_lit`` or ``python -m mprnet_lit``."""
    # Makes Hydra raise composition errors instead of printing them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    escape_unencodable()
    register_resolvers()
    mode = "train"
    try:
        # Hydra reads sys.argv, and Lightning launches worker processes with it.
        sys.argv = [sys.argv[0], *command_line.translate(sys.argv[1:])]
        mode = command_line.chosen_mode(sys.argv[1:])
        check_choices(sys.argv[1:])
        if (text := usage.answer(sys.argv[1:])) is not None:
            print(text, flush=True)
            return
        run = hydra.main(config_path=str(CONFIG_DIR), config_name=mode, version_base="1.3")(_run)
        with signals.forward_signals():
            try:
                run()
            except Exception:
                signals.exit_if_signaled()  # launchers raise an exception for stopped jobs
                raise
            signals.exit_if_signaled()
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain_error(error, mode) or str(error).strip())
    except UserError as error:  # raised by a sweep or one of its jobs
        fail(str(error))
    except (RecursionError, ValueError) as error:  # raised by Hydra's parser
        sentence = explain(error, mode)
        if sentence is None:
            raise
        fail(sentence)
    except KeyboardInterrupt:
        fail("Interrupted (Ctrl-C). All files written so far are complete", status=130)
    except BrokenPipeError:  # the reader of the pipe, such as head, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:  # Hydra can't create the run folder
        fail(f"{explain_error(error, mode) or error}: set paths.runs to a writable folder")


def _run(config: DictConfig) -> Any:
    """Run the mode. On an error, print one sentence, then exit; in a sweep, raise UserError."""
    try:
        mask_hydras_records(HydraConfig.get())
        if HydraConfig.get().job.chdir:
            raise UserError(
                "hydra.job.chdir=true is not supported: relative paths refer to the folder in "
                "which the command was started; remove this setting"
            )
        mode = _mode(config)
        refuse_renamed(config, mode)
        check_values(config)
        temp_folder.ensure_temp_folder()
        return importlib.import_module(f"mprnet_lit.cli.{mode}").run(config)
    except Exception as error:
        sentence = explain_error(error, str(config.get("mode")))
        if sentence is None:  # a bug
            traceback.print_exc()
            sentence = f"{type(error).__name__}: {error}"
        sentence = mask_text(with_keys(sentence, config))
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        has_own_folder = folder != Path.cwd()
        if has_own_folder and not isinstance(error, RefusedError):
            note_failure(folder, sentence)
        if hydra.mode != RunMode.MULTIRUN:
            fail(sentence)
        # The sweep continues with the next job.
        print(f"Error: {printable_lines(sentence)}", file=sys.stderr)
        raise UserError(f"at least one job of the sweep failed ({folder}): {sentence}") from error


def _mode(config: DictConfig) -> str:
    """Return the mode; raise UserError if a configuration file sets it."""
    mode, primary = config.get("mode"), HydraConfig.get().job.config_name
    if mode not in modes() or (primary in modes() and mode != primary):
        raise UserError(
            f"a configuration file can't choose the mode ({mode}): add mode=NAME to the command"
        )
    return str(mode)


if __name__ == "__main__":
    main()
