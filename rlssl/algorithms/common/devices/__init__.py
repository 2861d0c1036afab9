"""What a Learner does differently on a CPU and on a GPU.

A Learner on a CPU reads every number at once. A Learner on a GPU gives work to the GPU, and must
not wait for results: the GPU would be idle meanwhile. So each module here has one class for both
cases, chosen by the device when the Learner is built.
"""
