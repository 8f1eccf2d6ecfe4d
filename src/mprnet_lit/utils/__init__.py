"""Helpers with no knowledge of image restoration: errors, atomic writes, hardware, console."""
