#include "runtime-image/worker/compile.h"

#include <string.h>

#include "runtime-image/worker/source.h"

enum {
    /* The compiler's flags, the same in every version from 3.8 on. */
    ONLY_AST = 0x400,
    TOP_LEVEL_AWAIT = 0x2000,
    CO_COROUTINE = 0x80,
};

static struct {
    PyObject *compile;    /* builtins.compile */
    PyObject *expr;       /* _ast.Expr: an expression as a statement */
    PyObject *expression; /* _ast.Expression: what mode "eval" compiles */
    PyObject *code_type;
    PyObject *exec_mode;   /* "exec" */
    PyObject *eval_mode;   /* "eval" */
    PyObject *future_word; /* "__future__" */
    long future; /* flags of the __future__ features that cells imported */
} compiler;

bool cellar_compile_init(void)
{
    compiler.compile = cellar_import_from("builtins", "compile");
    compiler.exec_mode = PyUnicode_InternFromString("exec");
    compiler.eval_mode = PyUnicode_InternFromString("eval");
    compiler.future_word = PyUnicode_InternFromString("__future__");
    CELLAR_REF PyObject *code = Py_CompileString("0", "", Py_eval_input);
    if (!code || !compiler.compile || !compiler.exec_mode ||
        !compiler.eval_mode || !compiler.future_word)
        return false;
    compiler.code_type = (PyObject *)Py_TYPE(code);
    return true;
}

bool cellar_compile_warm(void)
{
    compiler.expr = cellar_import_from("_ast", "Expr");
    compiler.expression = cellar_import_from("_ast", "Expression");
    return compiler.expr && compiler.expression;
}

void cellar_code_done(struct cellar_code *code)
{
    Py_CLEAR(code->body);
    Py_CLEAR(code->last);
}

static PyObject *compile(PyObject *what, PyObject *name, PyObject *mode,
                         long flags)
{
    CELLAR_REF PyObject *number =
        PyLong_FromLong(flags | TOP_LEVEL_AWAIT | compiler.future);
    if (!number)
        return NULL;
    /* Py_True: dont_inherit, or the flags of a caller's frame would count. */
    return PyObject_CallFunctionObjArgs(compiler.compile, what, name, mode,
                                        number, Py_True, NULL);
}

static long get_long(PyObject *object, const char *name)
{
    CELLAR_REF PyObject *number = PyObject_GetAttrString(object, name);
    return number ? PyLong_AsLong(number) : -1;
}

bool cellar_code_awaits(PyObject *code)
{
    long flags = get_long(code, "co_flags");
    return flags > 0 && (flags & CO_COROUTINE);
}

/* The flags of __future__ features among the code's flags. Their values are
 * another in 3.8, so the module is asked. Negative: an exception is set. */
static long future_flags(PyObject *code)
{
    CELLAR_REF PyObject *module = PyImport_ImportModule("__future__");
    CELLAR_REF PyObject *names =
        module ? PyObject_GetAttrString(module, "all_feature_names") : NULL;
    long has = get_long(code, "co_flags"), flags = 0;
    Py_ssize_t count = names ? PySequence_Size(names) : -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        CELLAR_REF PyObject *name = PySequence_GetItem(names, i);
        CELLAR_REF PyObject *feature =
            name ? PyObject_GetAttr(module, name) : NULL;
        long flag = feature ? get_long(feature, "compiler_flag") : -1;
        if (flag < 0)
            return -1;
        flags |= has & flag;
    }
    return count < 0 || has < 0 ? -1 : flags;
}

/* Whether the code object holds others: of functions, classes, lambdas. */
static bool defines(PyObject *code)
{
    CELLAR_REF PyObject *consts =
        code ? PyObject_GetAttrString(code, "co_consts") : NULL;
    Py_ssize_t count = consts ? PyTuple_Size(consts) : 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if ((PyObject *)Py_TYPE(PyTuple_GetItem(consts, i)) ==
            compiler.code_type)
            return true;
    return false;
}

/* What stands behind an expression that is the last statement: blanks, then a
 * line's end, a comment or a ';'. */
static bool semicolon_follows(PyObject *source, PyObject *statement)
{
    CELLAR_REF PyObject *lines = cellar_source_lines(source);
    long line = get_long(statement, "end_lineno");
    long column = get_long(statement, "end_col_offset");
    PyObject *text = lines && line > 0 ? PyList_GetItem(lines, line - 1) : NULL;
    CELLAR_REF PyObject *bytes = text ? PyUnicode_AsUTF8String(text) : NULL;
    if (!bytes || column < 0 || column > PyBytes_Size(bytes)) {
        PyErr_Clear();
        return false;
    }
    const char *rest = PyBytes_AsString(bytes) + column;
    return rest[strspn(rest, " \t\f")] == ';';
}

/* Takes the last statement out of the tree if it is an expression: a new
 * reference, or NULL, without an exception. */
static PyObject *take_last(PyObject *body)
{
    Py_ssize_t count = PyList_Size(body);
    PyObject *last = count > 0 ? PyList_GetItem(body, count - 1) : NULL;
    if (!last || (PyObject *)Py_TYPE(last) != compiler.expr)
        return NULL;
    Py_INCREF(last);
    if (PyList_SetSlice(body, count - 1, count, NULL) < 0)
        Py_CLEAR(last);
    return last;
}

static bool compile_last(PyObject *source, PyObject *statement, PyObject *name,
                         struct cellar_code *code)
{
    CELLAR_REF PyObject *value = PyObject_GetAttrString(statement, "value");
    CELLAR_REF PyObject *tree =
        value ? PyObject_CallFunctionObjArgs(compiler.expression, value, NULL)
              : NULL;
    code->last = tree ? compile(tree, name, compiler.eval_mode, 0) : NULL;
    if (!code->last)
        return false;
    Py_ssize_t len = PyUnicode_GetLength(source);
    code->quiet = PyUnicode_FindChar(source, ';', 0, len, 1) >= 0 &&
                  semicolon_follows(source, statement);
    return true;
}

/* The tree is Python objects, made and taken apart again: more than half of
 * what a short cell takes. */
static bool compile_whole(PyObject *source, PyObject *name,
                          struct cellar_code *code)
{
    code->body = compile(source, name, compiler.exec_mode, 0);
    return code->body != NULL;
}

static bool compile_tree(PyObject *source, PyObject *name,
                         struct cellar_code *code)
{
    CELLAR_REF PyObject *tree =
        compile(source, name, compiler.exec_mode, ONLY_AST);
    CELLAR_REF PyObject *body =
        tree ? PyObject_GetAttrString(tree, "body") : NULL;
    if (!body)
        return false;
    CELLAR_REF PyObject *last = take_last(body);
    if (PyErr_Occurred())
        return false;
    if (PyList_Size(body) > 0) {
        code->body = compile(tree, name, compiler.exec_mode, 0);
        if (!code->body)
            return false;
    }
    return !last || compile_last(source, last, name, code);
}

/* Errors that are found behind the parser come without the line: the compiler
 * looks for a file of the name. */
static void add_line(PyObject *source, PyObject *name)
{
    struct cellar_raised raised = cellar_raised_take();
    PyObject *error = raised.value;
    CELLAR_REF PyObject *file = PyObject_GetAttrString(error, "filename");
    CELLAR_REF PyObject *text = PyObject_GetAttrString(error, "text");
    CELLAR_REF PyObject *lines = cellar_source_lines(source);
    long number = get_long(error, "lineno");
    if (lines && text == Py_None && file == name && number > 0 &&
        number <= PyList_Size(lines))
        (void)PyObject_SetAttrString(error, "text",
                                     PyList_GetItem(lines, number - 1));
    PyErr_Clear();
    cellar_raised_give(&raised);
}

bool cellar_compile(PyObject *source, bool plain, PyObject *name,
                    struct cellar_code *code)
{
    if (!(plain ? compile_whole : compile_tree)(source, name, code)) {
        if (PyErr_ExceptionMatches(PyExc_SyntaxError))
            add_line(source, name);
        return false;
    }
    code->awaits = (code->body && cellar_code_awaits(code->body)) ||
                   (code->last && cellar_code_awaits(code->last));
    code->defines = defines(code->body) || defines(code->last);
    Py_ssize_t len = PyUnicode_GetLength(source);
    if (code->body && len > 0 &&
        PyUnicode_Find(source, compiler.future_word, 0, len, 1) >= 0) {
        long flags = future_flags(code->body);
        if (flags < 0)
            return false;
        compiler.future |= flags;
    }
    return true;
}
