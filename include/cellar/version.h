/* The version of the library, the command and the runtime image. */
#ifndef CELLAR_VERSION_H
#define CELLAR_VERSION_H

#define CELLAR_VERSION "0.1.0"

#endif
