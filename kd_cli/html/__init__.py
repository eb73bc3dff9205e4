"""A page for any browser that runs exported networks by itself: its files, and the room that puts them in a folder."""
