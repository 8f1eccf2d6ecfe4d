"""Web page that restores uploaded photos (``mode=serve``)."""
