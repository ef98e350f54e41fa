"""System programs that target kinds need, got without root rights and kept in the user's cache folder."""
