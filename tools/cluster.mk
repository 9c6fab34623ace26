# The local cluster and what is loaded into it. Included by the top Makefile; works alone: make -f tools/cluster.mk cluster
.PHONY: cluster cluster-clean images load debian-packages

debian-packages:  ## install what the cluster needs from Debian (root)
	tools/install-debian-packages

cluster: debian-packages  ## a kind cluster named modelship, made or found alive
	tools/cluster up

images:  ## build the images whose inputs changed; names in .cache/images.env
	tools/images build

load: cluster  ## build the images and bring the cluster what it lacks of them
	tools/images load

cluster-clean:  ## remove the cluster; ALL=1 also removes the images and caches that the tools made
	tools/cluster down $(if $(ALL),--all)
