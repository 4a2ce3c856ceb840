"""What all slices share: the sample, its crop, its batches, its seeds."""
