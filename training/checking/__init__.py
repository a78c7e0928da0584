"""What is wrong with a labelled set: one module for each kind of finding."""
