"""The flow, one file per phase: plan, extract, validate, transform, load. Phases do not import each other."""
