/* How the public calls are marked: exported; a result that must be used. */
#ifndef CELLAR_API_H
#define CELLAR_API_H

#if defined(__GNUC__)
#define CELLAR_API   __attribute__((visibility("default")))
#define CELLAR_CHECK __attribute__((warn_unused_result))
#else
#define CELLAR_API
#define CELLAR_CHECK
#endif

#endif
