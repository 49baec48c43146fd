"""Jobs: Dask, zarr, ledgers and the command line round the pixels of `refine`."""
