"""ServiceAccount: the certificate authority asks whether there is one."""

from agent.model.engine.kind import CORE, Descriptor
from agent.model.schema.kubernetes import ServiceAccount

KIND = Descriptor("ServiceAccount", *CORE, "serviceaccounts", ServiceAccount)
