"""The page that ``mode=serve`` opens."""
