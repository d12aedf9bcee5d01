"""DenseNets as other people write them, one file each, to be compared with ours."""
