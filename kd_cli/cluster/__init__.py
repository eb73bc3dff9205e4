"""Tasks on other machines, by Dask: connection, files that machines need, workers. Does not know what tasks do."""
