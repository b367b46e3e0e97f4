"""Work on photos: segment them, time that, and show the results."""
