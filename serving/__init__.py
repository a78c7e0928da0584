"""HTTP around `inspection`: stations post images, the MES asks, people look."""
