"""The recurrence over time: one signature (:mod:`lstmkit.ops.call`), several back ends, one choosing point."""
