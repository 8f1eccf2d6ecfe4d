"""Video files: decoding, color conversion, encoding."""
