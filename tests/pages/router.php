<?php
// Router of PHP's own web server: probes are answered here, everything else is a file beside this one.

declare(strict_types=1);

if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/-/health') {
    header('Cache-Control: no-store');
    echo 'alive';
    return true;
}
return false;
