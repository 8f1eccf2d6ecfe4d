"""Run folders: file names, fingerprint, lock, settings, provenance."""
