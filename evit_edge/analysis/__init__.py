"""Section 2 of the EfficientViT paper (arXiv:2305.07027) as tools: what a network's design costs and wastes.

Each analysis is a module of its own with one door, from a frozen request to a frozen report:
:mod:`~evit_edge.analysis.runtime` (figure 2), :mod:`~evit_edge.analysis.layout` (figure 3),
:mod:`~evit_edge.analysis.heads` (figure 4) and :mod:`~evit_edge.analysis.channels` (figure 5). Beside the paper,
:mod:`~evit_edge.analysis.instructions` counts what an inference executes.
"""
