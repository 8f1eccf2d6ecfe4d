"""Run folders: file names, fingerprint, lock, provenance."""
