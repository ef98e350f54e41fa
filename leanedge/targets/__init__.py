from leanedge import resources

__path__ = [str(resources.folder("targets"))]
