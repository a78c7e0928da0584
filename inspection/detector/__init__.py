"""A flat-panel detector: what each of its pixels answers, and whether it is still fit to judge.

dark and open-beam frames -> calibration.py -> FlatField -> files.py -> one .npz a calibration
frames of a check         -> health.py      -> Health    -> trend.py -> one line of JSON a check
station                   -> book.py        -> the FlatField in force, or why there is none
raw frame                 -> FlatField.correct -> grey levels in proportion to the beam
                          -> background.py  -> contrast against what lies around
"""
