# The local cluster and what is loaded into it. Included by the top Makefile; works alone: make -f tools/cluster.mk cluster
.PHONY: cluster cluster-clean images machine push

machine:
	tools/install-debian-packages python
	tools/check-machine

cluster: ## A kind cluster named modelship: made, or found alive.
	tools/install-debian-packages cluster
	tools/cluster up

images: ## The cluster, and beside it the images whose inputs changed; then bring it the layers that it lacks.
	tools/install-debian-packages cluster
	tools/images

push: machine ## Build the images and push them: REGISTRY=registry.example.com/team; prints the helm command that installs them.
	tools/install-debian-packages cluster
	tools/images push "$(REGISTRY)"

cluster-clean: ## Remove the cluster; with ALL=1 also the images and caches that the tools made.
	tools/cluster down $(if $(ALL),--all)
