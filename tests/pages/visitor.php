<?php
// Who asks, and for what URL, as Symfony's request has it behind the proxies that are named.

declare(strict_types=1);
require __DIR__ . '/common.php';
require 'Symfony/Component/HttpFoundation/autoload.php';

use Symfony\Component\HttpFoundation\Request;

error_reporting(E_ALL & ~E_DEPRECATED & ~E_USER_DEPRECATED);
came_here('visitor');
header('Content-Type: text/plain');
header('Cache-Control: no-store');

Request::setTrustedProxies(
    explode(',', $_GET['trusted']),
    Request::HEADER_X_FORWARDED_FOR | Request::HEADER_X_FORWARDED_HOST | Request::HEADER_X_FORWARDED_PROTO
        | Request::HEADER_X_FORWARDED_PORT | Request::HEADER_X_FORWARDED_PREFIX
);
$request = Request::createFromGlobals();
$secure = $request->isSecure() ? 'secure' : 'plain';
echo "$secure {$request->getSchemeAndHttpHost()}{$request->getBaseUrl()} {$request->getHost()} {$request->getPort()} {$request->getClientIp()}";
