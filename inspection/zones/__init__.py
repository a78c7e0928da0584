"""Zones of a part: where a defect lies, how large it is, and what its zone allows.

    recipe       -> shapes.py: Zone, Rule                 drawn in millimetres on the part
    its file     -> reference.py: Reference               the view that the zones are drawn over
    frame        -> registration.py -> Placement          how this part lies against that view
    evidence     -> sizing.py       -> Indication         what is there, in millimetres
    indications  -> rules.py        -> what is allowed, or the rule that is broken
    all of it    -> drawing.py                            a picture of it

`inspection.acceptance` puts them together.
"""
