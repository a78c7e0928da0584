"""Making a model: labelled set -> manifest -> split -> fit -> calibrate -> limits -> package."""
