"""Distractors in the frames of dm_control: ``env: {distractors: {noise: {scale: 0.1}}}``.

They change what is seen, never states, actions or rewards. Each is a mapping of options, or
``true`` for its defaults; see `rlssl_envs.pixel_distractors.options`:

- ``noise``: Gaussian noise on each pixel, new in each step.
- ``discs``: discs that move in straight lines and bounce off the sides of the frame.
- ``colors``: the colors of all materials, shifted in each episode.
- ``camera``: the view is turned and zoomed a little in each episode.
- ``video``: frames of the user's files instead of floor and sky.

They depend on the seed of the episode's reset, and on whether the environment is for training or
for evaluation. Each distractor has random numbers of its own.
"""
