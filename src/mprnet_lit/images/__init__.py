"""Image files: formats, decoding, EXIF metadata, lossless and lossy encoding."""
