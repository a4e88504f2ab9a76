"""What a client and a server can see of a connection, each as a plain program would do it. Run in Residents.

Neither knows of a mesh: what they see without one is what they have to see with it.
"""

from tests.support.behaving import addresses as addresses
from tests.support.behaving import connects as connects
from tests.support.behaving import data as data
from tests.support.behaving import ends as ends
from tests.support.behaving.behaviour import TABLE as TABLE
from tests.support.behaving.behaviour import Place as Place
from tests.support.behaving.behaviour import Report as Report
from tests.support.behaving.behaviour import call as call
from tests.support.behaving.behaviour import finish as finish
from tests.support.behaving.behaviour import prepare as prepare
from tests.support.behaving.behaviour import serve as serve
