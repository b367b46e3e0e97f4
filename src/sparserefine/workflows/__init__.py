"""Old name of `sparserefine.photos`: what was imported from here still is, with a warning."""
