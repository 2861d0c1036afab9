"""Trials under Ray Tune: the Trainable, its launch, retries, scheduler and watchdog."""
