"""Process of mode=restore for one device; ``restore_processes.other_devices`` starts it."""

import json
import sys

from omegaconf import OmegaConf
from rich.console import Console

from mprnet_lit.cli import restore
from mprnet_lit.cli.restore_processes import Process
from mprnet_lit.utils import signals, temp_folder
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.text import escape_unencodable, printable_lines


def main() -> None:
    """Restore files with the configuration on the standard input until no file is left."""
    escape_unencodable()
    values = json.load(sys.stdin)
    process = Process(values["rank"], values["count"], values["started"])
    temp_folder.ensure_temp_folder()
    with signals.forward_signals():
        try:
            restore.restore_files(OmegaConf.create(values["config"]), process, Console())
        except UserError as error:
            print(f"Error: {printable_lines(mask_text(str(error)))}", flush=True)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
