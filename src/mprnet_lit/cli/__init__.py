"""Command line: one module per mode, each with ``run(config)``, and helper modules."""
