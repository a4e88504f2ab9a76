"""The certificate authority: `authority` signs, `authorizer` says for whom, `service` is how tunnels ask.

`cluster` and `standalone` are what differs with a cluster and without; `rotation` is how a root is exchanged.
"""

import os

# gRPC for Python cannot be told the least version of TLS. With TLS 1.2 this suite needs an RSA certificate,
# which we never serve: TLS 1.3 is all that is left. gRPC reads it when it is imported.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384")
