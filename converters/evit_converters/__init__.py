"""Any ``torch.nn.Module`` to a file that a phone runs; knows no particular network."""
