"""Self-contained HTML reports of images and of runs."""
