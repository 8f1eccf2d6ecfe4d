"""One module per mode of the command line, each with ``run(config)``."""
