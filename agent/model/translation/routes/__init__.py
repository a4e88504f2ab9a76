"""VirtualServices, DestinationRules and the Gateway API's routes -> `warren.routes.ServiceRoutes`.

`service_routes` is the tour: of each hostname of a service, port by port, what holds for which clients.
"""
