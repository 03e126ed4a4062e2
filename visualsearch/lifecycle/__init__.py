"""The life of a checkpoint: trained, judged, promoted, rolled back, carried to other machines."""
