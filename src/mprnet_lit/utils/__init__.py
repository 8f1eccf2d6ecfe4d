"""Helpers that are independent of image restoration: errors, atomic writes, hardware, console."""
