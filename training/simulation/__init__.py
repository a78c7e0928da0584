"""Radiographs of castings and pictures of machined faces, computed, with their truth beside them.

physics.py   tube, aluminium, scatter, blur, quanta, detector
casting.py   a knuckle-like casting as maps of thickness, seen from several sides
defects.py   pores, shrinkage, inclusions, cracks, cold shuts as thickness that is missing
process.py   machine, mould, melt and shift of each part, and what they cause
scene.py     one part: views, defects, what is true of them
writing.py   a whole set, with its truth, in a folder
surfaces.py  brushed, turned and cast faces under raking light; writing_faces.py, a set of them
"""
