// Images and wheels for both architectures: `make images`, `make wheels`, or docker buildx bake -f deploy/docker-bake.hcl
variable "REGISTRY" { default = "" } // such as registry.example/mesh/
variable "VERSION" { default = "0.1.0" }

group "default" { targets = ["image"] }

target "common" {
  context    = "."
  dockerfile = "deploy/daemonset/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
}

target "image" {
  inherits = ["common"]
  tags     = ["${REGISTRY}warren:${VERSION}"]
  labels   = { "org.opencontainers.image.version" = VERSION }
  attest   = ["type=provenance,mode=max", "type=sbom"]
}

target "wheel" { // build/wheels/linux_amd64, build/wheels/linux_arm64
  inherits = ["common"]
  target   = "wheel"
  output   = ["type=local,dest=build/wheels"]
}
