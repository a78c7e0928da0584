"""What a labelled set is made of: rows, regions, revisions, images."""
